"""From files, archives, addresses and the Hub to rows, with an account of what cannot be read."""
