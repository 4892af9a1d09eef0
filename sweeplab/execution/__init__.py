"""Running a study: the driver, its scheduler, and the workers, wherever a launcher has started them."""
