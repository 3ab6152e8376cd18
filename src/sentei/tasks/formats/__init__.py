"""One module for each format of data; `sentei.tasks.opening.FORMATS` lists them."""
