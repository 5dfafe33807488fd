"""neutron_schema.py FILE: Neutron's migrations don't run on SQLite; its models make the same tables."""
import sys

from neutron.db.migration.models import head
from sqlalchemy import create_engine

head.get_metadata().create_all(create_engine("sqlite:///" + sys.argv[1]))
