"""HTTP towards us: health and metrics today; every further page is one more function that adds its routes."""
