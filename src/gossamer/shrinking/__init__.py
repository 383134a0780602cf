"""A network within an accuracy budget: its data and task, how sensitive it is, the search."""
