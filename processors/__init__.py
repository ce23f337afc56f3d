"""Pictures and films: what they are, what may be made of them, and the workers that make it. Usable without the proxy."""
