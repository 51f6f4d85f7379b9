"""Judge the answers of servers by what became of the patients."""
