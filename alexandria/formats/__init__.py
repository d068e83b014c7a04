"""How the admin writes dates and numbers; Django looks for a module per language."""
