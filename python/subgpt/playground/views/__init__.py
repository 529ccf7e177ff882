"""What the tabs show, as plain data: nothing here knows of a browser."""
