"""Parts of pages: forms, lists and buttons."""
