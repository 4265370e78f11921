"""Image, mask and sentence examples from synthetic pictures, public data sets and one's own folders."""
