"""Training: recipes, data, one loop on ``accelerate``, and a task for each network."""
