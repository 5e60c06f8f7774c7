"""Comparing engines, or folders of results, on the same pairs with the same metrics.

``impasto evaluate`` paints pairs of photographs and artworks with several engines and measures them beside two
controls; ``impasto compare`` measures two folders of results that exist already. Both give an
:class:`~impasto.evaluate.results.Evaluation`: a table, a picture grid, JSON, and one HTML page that needs no network.

    measures    the table of metrics: names, which way is better, what they need
    inputs      finding, reading and pairing pictures
    measuring   the metrics of one result
    tasks       measuring of many results, with features of each picture computed once
    journal     what is done already, on disk
    job         ``impasto evaluate``: painting pairs, then measuring them
    folders     ``impasto compare``: matching files by their names, then measuring them
    results     medians and spreads, JSON
    grid, page  what people look at
"""
