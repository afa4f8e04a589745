// pulumi-language-python of the sandbox: Pulumi's own Python language host, with policy packs.
//
// The newest Python language host that a module proxy serves is 3.79.0. It runs programs of the newest engine, but for a
// plugin it looks at a field of the request that this engine leaves empty. So this program answers RunPlugin, by the
// virtual environment that the plugin's own file names (toolchain pip), and passes everything else on, byte for byte, to
// that host beside it (pulumi-language-python-inner). An engine that is installed on the machine brings its own host and needs none of this.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const innerName = "pulumi-language-python-inner"

// Four hundred megabytes, as the engine's own channels have.
const maxMessageSize = 1024 * 1024 * 400

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-language-python:", err)
		os.Exit(1)
	}
}

func run() error {
	inner, address, err := startInner()
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(codec{}),
			grpc.MaxCallRecvMsgSize(maxMessageSize),
			grpc.MaxCallSendMsgSize(maxMessageSize),
		),
	)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.ForceServerCodec(codec{}),
		grpc.MaxRecvMsgSize(maxMessageSize),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return forward(connection, stream) }),
	)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "pulumirpc.LanguageRuntime",
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: "RunPlugin", Handler: runPlugin, ServerStreams: true}},
	}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_ = server.Serve(listener)
	}()
	// The host behind ends with the engine, and this program with it.
	return inner.Wait()
}

// startInner starts the host behind this one with the same arguments, and returns where it listens.
func startInner() (*exec.Cmd, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	// The death signal is sent when the thread that started the process ends.
	runtime.LockOSThread()
	inner := exec.Command(filepath.Join(filepath.Dir(self), innerName), os.Args[1:]...)
	inner.Stderr = os.Stderr
	inner.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := inner.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := inner.Start(); err != nil {
		return nil, "", err
	}
	output := bufio.NewReader(stdout)
	port, err := output.ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("%s wrote no port: %w", innerName, err)
	}
	go func() {
		_, _ = io.Copy(os.Stdout, output)
	}()
	return inner, "127.0.0.1:" + strings.TrimSpace(port), nil
}

// runPlugin runs a plugin's program (a policy pack's, say) with the virtual environment that its own file names.
func runPlugin(_ any, stream grpc.ServerStream) error {
	request := &pulumirpc.RunPluginRequest{}
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	if request.Info == nil {
		return errors.New("RunPlugin: the request has no info; this host is for Pulumi 3.250 and later")
	}
	// What Pulumi itself takes where the plugin's file names none.
	virtualenv := "venv"
	if name, ok := request.Info.Options.AsMap()["virtualenv"].(string); ok && name != "" {
		virtualenv = name
	}
	if !filepath.IsAbs(virtualenv) {
		virtualenv = filepath.Join(request.Info.RootDirectory, virtualenv)
	}
	python := filepath.Join(virtualenv, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return fmt.Errorf("the virtual environment %s of the plugin in %s is not there; make it and install "+
			"the plugin's requirements into it", virtualenv, request.Info.ProgramDirectory)
	}
	// The call ends when the engine is done with the plugin, and the plugin with the call.
	command := exec.CommandContext(stream.Context(), python, append([]string{"-u", request.Info.ProgramDirectory}, request.Args...)...)
	command.Dir = request.Pwd
	command.Env = append(
		append(os.Environ(), request.Env...),
		"VIRTUAL_ENV="+virtualenv,
		"PATH="+filepath.Dir(python)+string(os.PathListSeparator)+os.Getenv("PATH"),
	)
	var sending sync.Mutex
	send := func(response *pulumirpc.RunPluginResponse) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.SendMsg(response)
	}
	command.Stdout = writer(func(data []byte) error {
		return send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stdout{Stdout: data}})
	})
	command.Stderr = writer(func(data []byte) error {
		return send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stderr{Stderr: data}})
	})
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("running the plugin in %s: %w", request.Info.ProgramDirectory, err)
	}
	return send(&pulumirpc.RunPluginResponse{
		Output: &pulumirpc.RunPluginResponse_Exitcode{Exitcode: int32(command.ProcessState.ExitCode())},
	})
}

// writer is an io.Writer that hands on what it is given.
type writer func([]byte) error

func (w writer) Write(data []byte) (int, error) {
	if err := w(data); err != nil {
		return 0, err
	}
	return len(data), nil
}

// frame is a message that is passed on as it came.
type frame struct{ data []byte }

// codec leaves frames alone; every other message is a protobuf one.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message any) ([]byte, error) {
	if raw, ok := message.(*frame); ok {
		return raw.data, nil
	}
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(data []byte, message any) error {
	if raw, ok := message.(*frame); ok {
		raw.data = append([]byte(nil), data...)
		return nil
	}
	return proto.Unmarshal(data, message.(proto.Message))
}

// forward passes one call of any kind on to the host behind, and its answers back.
func forward(connection *grpc.ClientConn, incoming grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(incoming)
	if !ok {
		return errors.New("a call without a method")
	}
	ctx, cancel := context.WithCancel(incoming.Context())
	defer cancel()
	if headers, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, headers)
	}
	outgoing, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			message := &frame{}
			if err := incoming.RecvMsg(message); err != nil {
				if errors.Is(err, io.EOF) {
					_ = outgoing.CloseSend()
				} else {
					cancel()
				}
				return
			}
			if err := outgoing.SendMsg(message); err != nil {
				return
			}
		}
	}()
	for {
		message := &frame{}
		if err := outgoing.RecvMsg(message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := incoming.SendMsg(message); err != nil {
			return err
		}
	}
}
