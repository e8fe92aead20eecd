"""The console commands, a file per noun; `service.__main__` puts them together."""
