// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

// Command ksef-simulator serves a simulated KSeF, makes certificates for it, and uses a KSeF token
// as an application does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitDone    = 0
	exitRefused = 1 // KSeF has refused the login or the invoice session
	exitFailed  = 2 // the command failed
)

const usage = `ksef-simulator is KSeF (Poland's e-invoice system) in a process, for tests.

  ksef-simulator serve        serve the API under /v2 and its control under /simulator/
  ksef-simulator certificate  make a self-signed certificate as KSeF's TEST environment accepts it
  ksef-simulator login        log in with a KSeF token, as an application would
  ksef-simulator open-session log in with a KSeF token and open an invoice session

Each command explains its flags with -h.
`

// errRefused ends a command that KSeF has refused. Its output is already printed.
var errRefused = errors.New("refused")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, arguments []string, in io.Reader, out, log io.Writer) int {
	err := dispatch(ctx, arguments, in, out, log)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errRefused):
		return exitRefused
	}
	_, _ = fmt.Fprintln(log, "ksef-simulator:", err) // if this fails, the exit code remains
	return exitFailed
}

func dispatch(ctx context.Context, arguments []string, in io.Reader, out, log io.Writer) error {
	if len(arguments) == 0 {
		return errors.New("a command is missing: use serve, certificate, login or open-session; help explains them")
	}
	switch arguments[0] {
	case "serve":
		return serve(ctx, arguments[1:], out, log)
	case "certificate":
		return certificate(arguments[1:], out, log)
	case "login":
		return login(ctx, arguments[1:], in, out, log)
	case "open-session":
		return openSession(ctx, arguments[1:], in, out, log)
	case "help", "-h", "-help", "--help":
		_, err := fmt.Fprint(out, usage)
		return err
	}
	return fmt.Errorf("the command %q is not known: use serve, certificate, login or open-session", arguments[0])
}

// parse parses the flags of a command, which has no other arguments.
func parse(flags *flag.FlagSet, arguments []string, log io.Writer) error {
	flags.SetOutput(log)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s takes flags only, not %q", flags.Name(), flags.Arg(0))
	}
	return nil
}
