// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"vault-plugin-secrets-ksef/simulator"
)

// certificate makes a certificate and its key, and writes them to new files.
func certificate(arguments []string, out, log io.Writer) error {
	var options simulator.CertificateOptions
	flags := flag.NewFlagSet("certificate", flag.ContinueOnError)
	flags.StringVar(&options.NIP, "nip", "", "`NIP` of a company, or random")
	flags.StringVar(&options.PESEL, "pesel", "", "`PESEL` of a person")
	flags.StringVar(&options.PeppolID, "peppol-id", "", "`identifier` of a Peppol provider, such as PPL000001")
	flags.StringVar(&options.Key, "key", "ec", "kind of the key: ec (P-256) or rsa (2048 bits)")
	days := flags.Int("days", 730, "`days` until the certificate expires")
	certFile := flags.String("out-cert", "", "`file` to write the certificate to, as PEM")
	keyFile := flags.String("out-key", "", "`file` to write the private key to, as PEM (PKCS#8), for its owner only")
	if err := parse(flags, arguments, log); err != nil {
		return err
	}
	switch {
	case given(options.NIP)+given(options.PESEL)+given(options.PeppolID) != 1:
		return errors.New("give one of --nip, --pesel and --peppol-id")
	case *certFile == "" || *keyFile == "":
		return errors.New("--out-cert and --out-key are needed")
	case *days < 1:
		return fmt.Errorf("--days %d is not valid: use 1 or more", *days)
	}
	if options.NIP == "random" {
		random, err := simulator.RandomNIP()
		if err != nil {
			return err
		}
		options.NIP = random
	}
	options.NotBefore = time.Now().Add(-time.Minute)
	options.NotAfter = time.Now().AddDate(0, 0, *days)
	certPEM, keyPEM, err := simulator.NewCertificate(options)
	if err != nil {
		return err
	}
	if err := writeNew(*keyFile, keyPEM, 0o600); err != nil {
		return err
	}
	if err := writeNew(*certFile, certPEM, 0o644); err != nil {
		return errors.Join(err, os.Remove(*keyFile))
	}
	_, err = fmt.Fprintln(out, options.NIP+options.PESEL+options.PeppolID)
	return err
}

// given returns 1 for a flag with a value.
func given(value string) int {
	if value == "" {
		return 0
	}
	return 1
}

// writeNew writes a file that does not exist yet.
func writeNew(name string, data []byte, mode os.FileMode) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists already: remove it, or choose another name", name)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}
