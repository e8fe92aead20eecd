"""A page for people who want an audience without writing a program."""
