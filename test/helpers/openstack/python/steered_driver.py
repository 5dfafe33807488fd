"""Nova's own fake driver, steered by files in the working folder:

guests/<uuid>.json                what a guest would be given; there as long as the server exists
console/<uuid>, console/default   what the console log says
fail/<beginning of a name>        such a server can't be built
hold/<beginning of a name>        nor is it built as long as this is there
"""
import json
import os
import time

from nova import exception
from nova.virt import fake


def read(*path):
    try:
        with open(os.path.join(*path)) as file:
            return file.read()
    except FileNotFoundError:
        return None


def first(folder, name):
    return next((prefix for prefix in os.listdir(folder) if name.startswith(prefix)), None)


class SteeredDriver(fake.FakeDriverWithoutFakeNodes):
    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations,
              network_info=None, **more):
        failing = first("fail", instance.display_name)
        if failing is not None:
            raise exception.BuildAbortException(instance_uuid=instance.uuid, reason=read("fail", failing))
        while first("hold", instance.display_name) is not None:
            time.sleep(0.1)
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info, **more)
        guest = {
            "addresses": [ip["address"] for vif in network_info for ip in vif.fixed_ips()],
            "userData": instance.user_data,
            "key": instance.key_data,
        }
        with open(guest_file(instance), "w") as file:
            json.dump(guest, file)

    def destroy(self, context, instance, *more, **options):
        super().destroy(context, instance, *more, **options)
        if os.path.exists(guest_file(instance)):
            os.remove(guest_file(instance))

    def get_console_output(self, context, instance):
        return read("console", instance.uuid) or read("console", "default") or ""


def guest_file(instance):
    return os.path.join("guests", instance.uuid + ".json")
