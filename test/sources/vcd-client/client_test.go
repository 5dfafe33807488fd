// Package vcdclient drives the stand-in for VMware Cloud Director with the vendor's own client, so that the stand-in's answers
// are shown to be what a real server's are understood to be: the calls are those that fleeting-plugin-vcd has made in its versions.
package vcdclient

import (
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmware/go-vcloud-director/v2/govcd"
	"github.com/vmware/go-vcloud-director/v2/types/v56"
)

const apiVersion = "37.3"

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv("VCD_" + name)
	if value == "" {
		t.Fatalf("VCD_%s is not set", name)
	}
	return value
}

func logIn(t *testing.T, token string) (*govcd.VCDClient, error) {
	t.Helper()
	address, err := url.Parse(env(t, "URL") + "/api")
	must(t, err)
	client := &govcd.VCDClient{Client: govcd.Client{
		VCDHREF:    *address,
		APIVersion: apiVersion,
		// The stand-in's certificate is nobody's.
		Http:            http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute},
		MaxRetryTimeout: 5,
	}}
	return client, client.SetToken(env(t, "ORG"), govcd.ApiTokenHeader, token)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Fatalf("expected an error with %q, not %v", what, err)
	}
}

func finish(t *testing.T, task govcd.Task, err error) {
	t.Helper()
	must(t, err)
	// The client's own wait has pauses of three seconds.
	must(t, task.WaitInspectTaskCompletion(nil, 20*time.Millisecond))
}

// Of Windows 11, for which the client has nothing.
type trustedPlatformModule struct {
	XMLName    xml.Name `xml:"root:TrustedPlatformModule"`
	Xmlns      string   `xml:"xmlns:root,attr"`
	TpmPresent bool     `xml:"root:TpmPresent"`
}

type place struct {
	client   *govcd.VCDClient
	org      *govcd.Org
	vdc      *govcd.Vdc
	network  *govcd.OrgVDCNetwork
	template govcd.VAppTemplate
	storage  types.Reference
}

func find(t *testing.T, templateName string) place {
	t.Helper()
	client, err := logIn(t, env(t, "TOKEN"))
	must(t, err)
	org, err := client.GetOrgByName(env(t, "ORG"))
	must(t, err)
	vdc, err := org.GetVDCByName(env(t, "VDC"), true)
	must(t, err)
	network, err := vdc.GetOrgVdcNetworkByName(env(t, "NETWORK"), true)
	must(t, err)
	catalog, err := org.GetCatalogByName(env(t, "CATALOG"), true)
	must(t, err)
	item, err := catalog.GetCatalogItemByName(templateName, true)
	must(t, err)
	template, err := item.GetVAppTemplate()
	must(t, err)
	storage, err := vdc.FindStorageProfileReference(env(t, "STORAGE_PROFILE"))
	must(t, err)
	return place{client, org, vdc, network, template, storage}
}

func customize(t *testing.T, vm *govcd.VM, script string) {
	t.Helper()
	yes, no := true, false
	section := vm.VM.GuestCustomizationSection
	section.Enabled = &yes
	section.AdminPassword = "Secret-1"
	section.AdminPasswordEnabled = &yes
	section.AdminPasswordAuto = &no
	section.ResetPasswordRequired = &no
	section.CustomizationScript = script
	set, err := vm.SetGuestCustomizationSection(section)
	must(t, err)
	if set.CustomizationScript != script {
		t.Fatalf("the script came back as %q", set.CustomizationScript)
	}
}

func resize(t *testing.T, vm *govcd.VM) {
	t.Helper()
	cpus, cores := 4, 2
	must(t, vm.ChangeCPUAndCoreCount(&cpus, &cores))
	must(t, vm.ChangeMemory(8192))
	must(t, vm.Refresh())
	spec := vm.VM.VmSpecSection
	spec.DiskSection.DiskSettings[0].SizeMb = 20 * 1024
	_, err := vm.UpdateVmSpecSection(spec, vm.VM.Description)
	must(t, err)
	must(t, vm.Refresh())
	spec = vm.VM.VmSpecSection
	got := fmt.Sprint(*spec.NumCpus, *spec.NumCoresPerSocket, spec.MemoryResourceMb.Configured, spec.DiskSection.DiskSettings[0].SizeMb)
	if got != "4 2 8192 20480" {
		t.Fatalf("the size is %s", got)
	}
}

func expectAddress(t *testing.T, vm *govcd.VM) {
	t.Helper()
	status, err := vm.GetStatus()
	must(t, err)
	if status != "POWERED_ON" {
		t.Fatalf("the status is %s", status)
	}
	must(t, vm.Refresh())
	if connection := vm.VM.NetworkConnectionSection.NetworkConnection[0]; connection.IPAddress == "" || connection.Network != env(t, "NETWORK") {
		t.Fatalf("it has no address: %+v", connection)
	}
}

func TestTokenThatIsWrong(t *testing.T) {
	_, err := logIn(t, "nobody's")
	// What the server says of it the client does not read: it is OAuth's own form.
	refused(t, err, "error authorizing")
}

// As its first version did: a vApp for all, to which VMs are added.
func TestOneVAppWithSeveralVMs(t *testing.T) {
	at := find(t, env(t, "TEMPLATE"))
	vapp, err := at.vdc.CreateRawVApp("all", "for all")
	must(t, err)
	_, err = vapp.AddOrgNetwork(&govcd.VappNetworkSettings{}, at.network.OrgVDCNetwork, false)
	must(t, err)
	connections := &types.NetworkConnectionSection{NetworkConnection: []*types.NetworkConnection{{
		IPAddressAllocationMode: types.IPAllocationModePool, IsConnected: true, NeedsCustomization: true, Network: env(t, "NETWORK"),
	}}}
	for _, name := range []string{"one", "two"} {
		task, err := vapp.AddNewVMWithComputePolicy(name, at.template, connections, &at.storage, nil, true)
		finish(t, task, err)
		vm, err := vapp.GetVMByName(name, true)
		must(t, err)
		customize(t, vm, "#!/bin/sh\necho 'a & b' > \"$HOME/<x>\"\n")
		resize(t, vm)
		power, err := vm.PowerOn()
		finish(t, power, err)
		expectAddress(t, vm)
	}
	must(t, vapp.Refresh())
	if len(vapp.VApp.Children.VM) != 2 || types.VAppStatuses[vapp.VApp.Status] != "POWERED_ON" {
		t.Fatalf("%d VMs, status %d", len(vapp.VApp.Children.VM), vapp.VApp.Status)
	}
	first, err := vapp.GetVMByName("one", true)
	must(t, err)
	_, err = vapp.Delete()
	refused(t, err, "is not stopped")
	must(t, first.Delete())
	_, err = first.Undeploy()
	refused(t, err, "the target entity is invalid")
	remove(t, vapp)
	_, err = at.vdc.GetVAppByName("all", true)
	refused(t, err, "not found")
}

// As its later versions do: a vApp for each VM, known by its metadata.
func TestOneVAppForEachVM(t *testing.T) {
	at := find(t, env(t, "TEMPLATE"))
	// What it answers is a vApp, which the client takes for a task.
	_, err := at.vdc.ComposeVApp([]*types.OrgVDCNetwork{at.network.OrgVDCNetwork}, at.template, at.storage, "single-1", "for one", true)
	must(t, err)
	_, err = at.vdc.ComposeVApp([]*types.OrgVDCNetwork{at.network.OrgVDCNetwork}, at.template, at.storage, "single-1", "again", true)
	refused(t, err, "already exists")
	vapp, err := at.vdc.GetVAppByName("single-1", true)
	must(t, err)
	_, err = vapp.Undeploy()
	refused(t, err, "is busy completing an operation")
	must(t, vapp.BlockWhileStatus("UNRESOLVED", 60))
	must(t, vapp.Refresh())
	must(t, vapp.AddMetadataEntryWithVisibility("instance_group", "ci", types.MetadataStringValue, types.MetadataReadWriteVisibility, false))
	found, _, err := at.client.Client.SearchByFilter(types.QtVapp, &govcd.FilterDef{
		Filters:              map[string]string{"name_regex": "^single"},
		Metadata:             []govcd.MetadataDef{{Key: "instance_group", Type: "STRING", Value: "ci"}},
		UseMetadataApiFilter: true,
	})
	must(t, err)
	if len(found) != 1 || found[0].GetName() != "single-1" {
		t.Fatalf("found %v", found)
	}
	vm := govcd.NewVM(&at.client.Client)
	vm.VM.HREF = vapp.VApp.Children.VM[0].HREF
	must(t, vm.Refresh())
	customize(t, vm, "echo")
	resize(t, vm)
	tpm, err := at.client.Client.ExecuteTaskRequest(vm.VM.HREF+"/action/editTrustedPlatformModule", http.MethodPost,
		"application/vnd.vmware.vcloud.TpmSection+xml", "error: %s", &trustedPlatformModule{Xmlns: types.XMLNamespaceVCloud, TpmPresent: true})
	finish(t, tpm, err)
	_, err = vm.Undeploy()
	refused(t, err, "is not running")
	power, err := vm.PowerOn()
	finish(t, power, err)
	expectAddress(t, vm)
	refused(t, vm.ChangeMemory(4096), "is not powered off")
	off, err := vapp.PowerOff()
	finish(t, off, err)
	remove(t, vapp)
}

func remove(t *testing.T, vapp *govcd.VApp) {
	t.Helper()
	if task, err := vapp.Undeploy(); err == nil {
		finish(t, task, nil)
	}
	task, err := vapp.Delete()
	finish(t, task, err)
	refused(t, vapp.Refresh(), "the target entity is invalid")
}
