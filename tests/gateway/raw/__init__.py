"""Raw requests and what becomes of each: tables by class (`cases_*.py`), and the runs over them."""
