"""The console's router, made before its pages: they need the API's sign-in, and the API's application needs this."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
