/** The examples in the READMEs of the plugins and the executor that this one can stand in for: their `plugin_config`, unchanged. */

export const OPENSTACK = `
cloud = "runner"
clouds_config = "/etc/gitlab-runner/clouds.yaml"
name = "scaling-runner-stack-id"
nova_microversion = "2.79" # train+
boot_time = "10m"
use_ignition = true

[server_spec]
name = "scaling-runner-%d"
description = "GitLab CI Docker runners with autoscaling"
tags = ["GitLab", "CI", "Docker", "Scaling"]
imageRef = "d5460af5-83f3-47d7-9c4f-80294c66b267"
image_name = "flatcar"
flavorRef = "4e9d4fa4-a703-4850-8bc1-58b5e139ab57"
networks = [ { uuid = "f05e7f64-9e0f-4c5c-acb0-b636000d7301" } ]
security_groups = [ "cee22d91-bb9a-455d-be88-e911d3cb066a" ]
scheduler_hints = { group = "a9c941cb-5b34-46e0-8fc6-7471e3b77c75" }
user_data = '''
{
  "ignition": { "version": "3.4.0" },
  "storage": { "files": [ { "path": "/etc/flatcar/update.conf", "contents": { "source": "data:,SERVER%3Ddisabled" } } ] }
}
'''
`;

export const INCUS = `
incus_image = "runner-base"                    # Incus image/alias to use
incus_instance_key_path = "/opt/ssh-fleeting/id_ed25519"  # SSH private key for VM access
incus_instance_size = "c5-m10"                 # VM size: c5-m10 (5 CPU, 10GB) or t2.micro (AWS-style)
incus_disk_size = "100GiB"                     # Root disk size (default: 100GiB)
incus_startup_timeout = 120                    # VM startup timeout in seconds (default: 120)
incus_operation_timeout = 60                   # Incus operation timeout in seconds (default: 60)
incus_naming_scheme = "runner-$random"         # Naming scheme for VMs (default: runner-$random)
incus_delete_only_own_vms = true               # Only delete VMs matching naming scheme (default: true)
max_instances = 5                              # Maximum number of VMs (default: 5)
`;

export const VCD = `
name = "my-runner"
url = "https://vcd.example.com/api"
org = "MyOrg"
token = "your-api-token"
virtual_datacenter = "MyVDC"
network = "MyNetwork"
ip_allocation_mode = "POOL"
instance_group_name = "gitlab-runners"
vapp_name_prefix = "gitlab-runner"
catalog = "MyCatalog"
template = "Ubuntu-22.04"
storage_profile = "MyStorageProfile"
cpu_count = 4
cores_per_socket = 2
memory_mb = 8192
disk_size_gb = 100
debug_server_addr = "127.0.0.1:27060"
`;

export const FLEETINGD = `
# The VMs are going to use this interface for gress traffic / internet access
egress_interface = "eth0"

# The directory where OS images, kernel images and the VM's ephemeral disks are stored
vm_disk_directory = "/tmp/fleetingd"

# The subnet the VMs are going to be attached to
vm_subnet = "172.16.120."

# Number of vCPU cores available per VM
vm_num_cpu_cores = 8

# RAM per VM instance (ballooning is enabled so you may overcommit depending on your use case)
vm_memory_mb = 16384

# VM disk size in GB (sparse allocation)
vm_disk_size_gb = 30

# Inject some extra cloudinit commands to run during prebuild, add your VM image customization here:
vm_prebuild_cloudinit_extra_cmds = [
  # Example: This is run as root
  'apt install -y --no-install-recommends git build-essential',

  # Example: This is run as ubuntu
  'su - ubuntu -c "whoami"',
]

# You can enable the virtio console file in the .instance_data subdirectory of vm_disk_directory
vm_enable_virtio_console = false
`;

/** libvirt-gitlab-executor's, as it stands in `[runners.custom]`. */
export const LIBVIRT_EXECUTOR = `
    prepare_exec = "/home/ci/.local/bin/libvirt-gci"
    prepare_args = [ "prepare" ]
    run_exec = "/home/ci/.local/bin/libvirt-gci"
    run_args = ["run", "--script"]
    cleanup_exec = "/home/ci/.local/bin/libvirt-gci"
    cleanup_args = ["cleanup"]
`;
