"""Every statement that the relay runs, by subject. Values are parameters, names are fixed here."""
