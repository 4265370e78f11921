"""Image, mask and sentence examples from synthetic images, public data sets and one's own folders."""

from tevia_hf.extras import needed_for

with needed_for("Reading data sets"):
    import datasets as datasets
    import pandas as pandas
