"""What models remember of past doses, on a ward whose data-generating process is known."""
