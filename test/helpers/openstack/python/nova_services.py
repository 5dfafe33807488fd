"""nova_services.py PORT: conductor, scheduler, compute and API of Nova in one process, which talk through its memory."""
import sys

import nova.monkey_patch  # noqa: F401 (first of all)
import eventlet
import eventlet.wsgi
import nova.conf
import nova.virt
import os_vif
from nova import config, context, objects, service
from nova.api import wsgi
from nova.compute import rpcapi as compute
from nova.conductor import rpcapi as conductor
from nova.objects import host_mapping
from nova.scheduler import rpcapi as scheduler
from nova.scheduler.client import report
from nova.servicegroup import api as servicegroup
from oslo_log import log as logging

import kept_connections  # noqa: F401
import steered_driver
from counted import counted

# Nova loads drivers by a name below nova.virt only.
sys.modules["nova.virt.steered"] = nova.virt.steered = steered_driver
# At each server's beginning and end Nova reads the allocations of all others of the host, one by one, for drivers that rearrange
# their providers; this one does not, and all servers are on one host.
report.SchedulerReportClient.get_allocations_for_provider_tree = lambda *_: {}
# The scheduler takes no host that has given no sign of life.
servicegroup.INITIAL_REPORTING_DELAY = 0

config.parse_args(["nova", "--config-file", "nova.conf"])
logging.setup(nova.conf.CONF, "nova")
objects.register_all()
os_vif.initialize()
running = []
for binary, topic in (
    ("nova-conductor", conductor.RPC_TOPIC),
    ("nova-scheduler", scheduler.RPC_TOPIC),
    ("nova-compute", compute.RPC_TOPIC),
):
    running.append(service.Service.create(binary=binary, topic=topic))
    running[-1].start()
host_mapping.discover_hosts(context.get_admin_context())
api = wsgi.Loader().load_app("osapi_compute")
socket = eventlet.listen(("127.0.0.1", int(sys.argv[1])))
eventlet.wsgi.server(socket, counted("nova", api), log_output=False)
