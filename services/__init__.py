"""The deployables of Penstock, one folder each; they meet on streams and never import each other."""
