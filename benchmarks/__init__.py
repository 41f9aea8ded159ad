"""How fast is it? `make bench` measures, prints a table of ratios, and puts it into README.md. No part of the product."""
