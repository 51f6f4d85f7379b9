"""A registered model behind HTTP: raw records in, a risk for every step out."""
