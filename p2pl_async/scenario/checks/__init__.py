"""What must fit between the tables of a scenario."""
