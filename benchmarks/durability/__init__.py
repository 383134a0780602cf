"""What may happen to a study while it runs or lies on disk, done to it many times."""
