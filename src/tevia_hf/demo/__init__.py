from ..extras import needed_for

with needed_for("The demo"):
    import datasets as datasets
