"""A web page, and a REST API with the parameters of remove.bg, before any Triton with our models (extra ``web``).

>>> from bgclient.web import Settings, create_app
>>> app = create_app(Settings(url="localhost:8001"))

``serve`` runs it; ``uvicorn --factory bgclient.web:create_app`` does too, with settings from the environment.
"""

from bgclient.web.app import create_app, serve
from bgclient.web.listen import check_free
from bgclient.web.settings import Settings

__all__ = ["Settings", "check_free", "create_app", "serve"]
