"""Numbers to tables and sentences, which the terminal and the pages show."""
