"""One small class per group of routes: parse, require, call, answer."""
