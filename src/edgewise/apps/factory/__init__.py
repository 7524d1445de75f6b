"""Surface inspection in several plants: one network for all, whose list of classes grows. See README.md."""
