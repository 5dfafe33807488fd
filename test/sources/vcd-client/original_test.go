package vcdclient

import (
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vmware/go-vcloud-director/v2/govcd"
	"github.com/vmware/go-vcloud-director/v2/types/v56"
)

// What fleeting-plugin-vcd makes and deletes at a time.
const (
	creates = 3
	deletes = 5
)

// For the benchmarks: so many machines as fleeting-plugin-vcd makes and deletes them, call by call and with its own pauses.
func TestTheOriginalsWay(t *testing.T) {
	count, _ := strconv.Atoi(os.Getenv("VCD_COUNT"))
	if count == 0 {
		t.Skip("only the benchmarks ask for it")
	}
	client, err := logIn(t, env(t, "TOKEN"))
	must(t, err)
	names := make([]string, count)
	for i := range names {
		names[i] = "original-" + strconv.Itoa(i)
	}
	hrefs := sync.Map{}
	inParts(names, creates, func(name string) { hrefs.Store(name, makeAsTheOriginal(t, client, name)) })
	t.Log("made")
	inParts(names, deletes, func(name string) {
		href, _ := hrefs.Load(name)
		deleteAsTheOriginal(t, client, href.(string))
	})
}

func inParts(names []string, atOnce int, work func(string)) {
	queue := make(chan string)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for name := range queue {
				work(name)
			}
		})
	}
	for _, name := range names {
		queue <- name
	}
	close(queue)
	workers.Wait()
}

func waitAsTheOriginal(t *testing.T, task govcd.Task) {
	for {
		must(t, task.Refresh())
		if task.Task.Status == "success" {
			return
		}
		time.Sleep(3 * time.Second)
	}
}

func makeAsTheOriginal(t *testing.T, client *govcd.VCDClient, name string) string {
	org := func() *govcd.Org {
		found, err := client.GetOrgByName(env(t, "ORG"))
		must(t, err)
		return found
	}
	vdc, err := org().GetVDCByName(env(t, "VDC"), true)
	must(t, err)
	catalog, err := org().GetCatalogByName(env(t, "CATALOG"), true)
	must(t, err)
	item, err := catalog.GetCatalogItemByName(env(t, "TEMPLATE"), true)
	must(t, err)
	template, err := item.GetVAppTemplate()
	must(t, err)
	network, err := vdc.GetOrgVdcNetworkByName(env(t, "NETWORK"), true)
	must(t, err)
	again, err := org().GetVDCByName(env(t, "VDC"), false)
	must(t, err)
	storage, err := again.FindStorageProfileReference(env(t, "STORAGE_PROFILE"))
	must(t, err)

	vapp, err := vdc.CreateRawVApp(name, "the original's")
	must(t, err)
	must(t, vapp.AddMetadataEntryWithVisibility("vcd-instance-group", "ci", types.MetadataStringValue, types.MetadataReadWriteVisibility, false))
	task, err := vapp.AddRAWNetworkConfig([]*types.OrgVDCNetwork{network.OrgVDCNetwork})
	must(t, err)
	waitAsTheOriginal(t, task)
	connections := &types.NetworkConnectionSection{NetworkConnection: []*types.NetworkConnection{{
		IPAddressAllocationMode: types.IPAllocationModePool, IsConnected: true, NeedsCustomization: true, Network: env(t, "NETWORK"),
	}}}
	// It asks for the data center's policy before.
	_, err = org().GetVDCByName(env(t, "VDC"), true)
	must(t, err)
	task, err = vapp.AddNewVMWithComputePolicy(name, template, connections, &storage, nil, true)
	must(t, err)
	waitAsTheOriginal(t, task)
	must(t, vapp.Refresh())
	vm := govcd.NewVM(&client.Client)
	vm.VM.HREF = vapp.VApp.Children.VM[0].HREF
	must(t, vm.Refresh())
	_, err = vm.GetStatus()
	must(t, err)
	must(t, vapp.Refresh())
	time.Sleep(15 * time.Second)
	must(t, vm.Refresh())
	customize(t, vm, "echo")
	must(t, vm.Refresh())
	resize(t, vm)
	must(t, vm.Refresh())
	task, err = vm.PowerOn()
	must(t, err)
	waitAsTheOriginal(t, task)
	_, err = vm.GetStatus()
	must(t, err)
	return vapp.VApp.HREF
}

func deleteAsTheOriginal(t *testing.T, client *govcd.VCDClient, href string) {
	vapp := govcd.NewVApp(&client.Client)
	vapp.VApp.HREF = href
	must(t, vapp.Refresh())
	vm := govcd.NewVM(&client.Client)
	vm.VM.HREF = vapp.VApp.Children.VM[0].HREF
	must(t, vm.Refresh())
	task, err := vapp.PowerOff()
	must(t, err)
	waitAsTheOriginal(t, task)
	if task, err = vapp.Undeploy(); err == nil {
		waitAsTheOriginal(t, task)
	}
	task, err = vapp.Delete()
	must(t, err)
	waitAsTheOriginal(t, task)
}
