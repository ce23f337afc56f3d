"""The streaming media proxy: the service that browsers, phones and CDNs talk to."""
