"""What is put into an agent's context unasked: decided item by item, rendered as data, recorded."""
