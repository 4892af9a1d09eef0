"""The recommended setting as files that other trainers read."""
