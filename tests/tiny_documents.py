"""Two documents with headings, in two forms."""

MARKDOWN = """# Handbook

Our offices are in **Oslo**.

## Returns

Goods may come back within [thirty days](rules.html) of delivery. Send them to the *main* warehouse.

```
# no heading
```

## Shipping

- Parcels leave on Tuesdays.
"""
HTML = """<html><head><title>x</title><style>p {}</style></head><body><h1>Prices</h1>
<p>A small box costs <b>four</b> crowns.</p><script>alert("no")</script>
<h2>Discounts</h2><ul><li>Students pay half.</li><li>Groups pay &frac34;.</li></ul></body></html>"""
