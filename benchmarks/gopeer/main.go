// Go's own client in the benchmark: GETs over `workers` connections for so many seconds, a download, or an upload.
//
// gopeer get URL SECONDS WORKERS [CA]; gopeer download URL TIMES; gopeer upload URL BYTES TIMES.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newClient(workers int, ca string) *http.Client {
	transport := &http.Transport{MaxIdleConns: workers, MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &http.Client{Transport: transport}
}

func get(client *http.Client, url string) int64 {
	response, err := client.Get(url)
	check(err)
	defer response.Body.Close()
	count, err := io.Copy(io.Discard, response.Body)
	check(err)
	return count
}

func upload(client *http.Client, url string, body []byte) {
	response, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
	check(err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	check(err)
}

func measureGets(url string, seconds float64, workers int, ca string) (int64, time.Duration, float64) {
	client := newClient(workers, ca)
	var total atomic.Int64
	var warm, done sync.WaitGroup
	var end time.Time
	start := make(chan struct{})
	warm.Add(workers)
	done.Add(workers)
	for i := 0; i < workers; i++ {
		go func() {
			defer done.Done()
			get(client, url)
			warm.Done()
			<-start
			for time.Now().Before(end) {
				get(client, url)
				total.Add(1)
			}
		}()
	}
	warm.Wait()
	cpu, began := cpuSeconds(), time.Now()
	end = began.Add(time.Duration(seconds * 1e9))
	close(start)
	done.Wait()
	return total.Load(), time.Since(began), cpuSeconds() - cpu
}

func main() {
	url := os.Args[2]
	var count int64
	var took time.Duration
	var cpu float64
	switch os.Args[1] {
	case "get":
		seconds, err := strconv.ParseFloat(os.Args[3], 64)
		check(err)
		ca := ""
		if len(os.Args) > 5 {
			ca = os.Args[5]
		}
		count, took, cpu = measureGets(url, seconds, number(os.Args[4]), ca)
	case "download":
		client := newClient(1, "")
		cpu = -cpuSeconds()
		began := time.Now()
		for i := 0; i < number(os.Args[3]); i++ {
			count += get(client, url)
		}
		took, cpu = time.Since(began), cpu+cpuSeconds()
	case "upload":
		client, body := newClient(1, ""), make([]byte, number(os.Args[3]))
		cpu = -cpuSeconds()
		began := time.Now()
		for i := 0; i < number(os.Args[4]); i++ {
			upload(client, url, body)
			count += int64(len(body))
		}
		took, cpu = time.Since(began), cpu+cpuSeconds()
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"count": float64(count), "seconds": took.Seconds(), "cpu": cpu,
	}))
}
