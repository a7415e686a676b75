"""The files that weights lie in: each form is read to plain arrays under the file's own names, and written from them."""
