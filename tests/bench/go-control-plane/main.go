// The peer in `make bench`: go-control-plane serving the resources that xds-server's example `raw_resources` serves,
// under the same orders: prints `listening ADDRESS`; a line `change` on stdin changes one cluster, and is answered by
// `changed NAME STARTED TOOK`: nanoseconds since 1970, and nanoseconds that SetSnapshot took. The end of stdin ends it.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// group is the one that every node is of.
const group = "all"

type oneGroup struct{}

func (oneGroup) ID(*core.Node) string { return group }

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go-control-plane CLUSTERS")
	}
	count, err := strconv.Atoi(os.Args[1])
	check(err)

	clusters := make([]types.Resource, count)
	assignments := make([]types.Resource, count)
	for n := range clusters {
		clusters[n] = makeCluster(n, 0)
		assignments[n] = makeAssignment(n)
	}
	routes := []types.Resource{makeRoutes(count)}
	snapshots := cache.NewSnapshotCache(true, oneGroup{}, nil)
	publish := func(edit int) (time.Time, time.Duration) {
		snapshot, err := cache.NewSnapshot(strconv.Itoa(edit), map[resource.Type][]types.Resource{
			resource.ClusterType:  clusters,
			resource.EndpointType: assignments,
			resource.RouteType:    routes,
		})
		check(err)
		started := time.Now()
		check(snapshots.SetSnapshot(context.Background(), group, snapshot))
		return started, time.Since(started)
	}
	publish(0)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	grpcServer := grpc.NewServer(grpc.MaxConcurrentStreams(100))
	discovery.RegisterAggregatedDiscoveryServiceServer(
		grpcServer, server.NewServer(context.Background(), snapshots, nil))
	fmt.Println("listening", listener.Addr())
	go func() { check(grpcServer.Serve(listener)) }()

	orders := bufio.NewScanner(os.Stdin)
	for edit := 1; orders.Scan(); edit++ {
		if orders.Text() == "change" {
			changed := edit * 7919 % count
			// A new slice, since the snapshot that is out holds the old one's content.
			clusters = append([]types.Resource(nil), clusters...)
			clusters[changed] = makeCluster(changed, edit)
			started, took := publish(edit)
			fmt.Println("changed", name(changed), started.UnixNano(), took.Nanoseconds())
		}
	}
}

func name(n int) string { return fmt.Sprintf("cluster-%06d", n) }

// makeCluster makes a cluster of which edit makes one differ from the other.
func makeCluster(n, edit int) *cluster.Cluster {
	timeout := 5*time.Second + time.Duration(edit%1000)*time.Millisecond
	return &cluster.Cluster{
		Name:                 name(n),
		ConnectTimeout:       durationpb.New(timeout),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{EdsConfig: &core.ConfigSource{
			ResourceApiVersion:    core.ApiVersion_V3,
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
		}},
	}
}

func makeAssignment(n int) *endpoint.ClusterLoadAssignment {
	endpoints := make([]*endpoint.LbEndpoint, 3)
	for last := range endpoints {
		address := fmt.Sprintf("10.%d.%d.%d", n/256%256, n%256, last+1)
		socket := &core.SocketAddress{
			Address:       address,
			PortSpecifier: &core.SocketAddress_PortValue{PortValue: 8080},
		}
		endpoints[last] = &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{
			Endpoint: &endpoint.Endpoint{
				Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}},
			},
		}}
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name(n),
		Endpoints:   []*endpoint.LocalityLbEndpoints{{LbEndpoints: endpoints}},
	}
}

func makeRoutes(count int) *route.RouteConfiguration {
	routes := make([]*route.Route, count)
	for n := range routes {
		routes[n] = &route.Route{
			Match: &route.RouteMatch{
				PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/" + name(n) + "/"},
			},
			Action: &route.Route_Route{Route: &route.RouteAction{
				ClusterSpecifier: &route.RouteAction_Cluster{Cluster: name(n)},
			}},
		}
	}
	host := &route.VirtualHost{Name: "all", Domains: []string{"*"}, Routes: routes}
	return &route.RouteConfiguration{Name: "routes", VirtualHosts: []*route.VirtualHost{host}}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
