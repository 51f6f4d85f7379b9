"""What the models read: the same models with some of their inputs."""
