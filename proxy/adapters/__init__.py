"""One outside system each: its library is imported here only, its failures become ours here only."""
