// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package ca

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"time"
)

// serverLifetime is how long the certificates of NewServerCertificate are valid.
const serverLifetime = 365 * 24 * time.Hour

// NewServerCertificate makes a certificate authority and a server certificate under it for the
// given host names and IP addresses, both valid for a year. Clients must trust caPEM. The
// authority's key is discarded.
func NewServerCertificate(hosts ...string) (caPEM []byte, server tls.Certificate, err error) {
	if len(hosts) == 0 {
		return nil, tls.Certificate{}, errors.New("a server certificate needs at least one host name or IP address")
	}
	root := serverTemplate(1, "Symulator KSeF CA")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	root, rootKey, err := signCertificate(root, nil, nil)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	leaf := serverTemplate(2, "Symulator KSeF")
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	leaf, leafKey, err := signCertificate(leaf, root, rootKey)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
	return caPEM, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey, Leaf: leaf}, nil
}

func serverTemplate(serial int64, name string) *x509.Certificate {
	start := time.Now().Add(-time.Hour)
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: start, NotAfter: start.Add(serverLifetime),
	}
}
