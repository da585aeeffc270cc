// Copyright (c) vault-plugin-secrets-ksef contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// The polling of a login: interval and timeout.
const (
	pollInterval = 500 * time.Millisecond
	pollTimeout  = time.Minute
)

// statusInfo is the status of a login.
type statusInfo struct {
	Code        int      `json:"code"`
	Description string   `json:"description"`
	Details     []string `json:"details"`
}

// login logs in with a KSeF token and prints whether KSeF has accepted it.
func login(ctx context.Context, arguments []string, in io.Reader, out, log io.Writer) error {
	_, opened, err := logInWithToken(ctx, "login", arguments, in, out, log)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "login accepted: %s\n", opened.reference)
	return err
}

// session is a successful login.
type session struct{ reference, access string }

// logInWithToken parses the flags of a command that logs in with a KSeF token, and logs in. When
// KSeF refuses the login, it prints why and returns errRefused.
func logInWithToken(ctx context.Context, command string, arguments []string, in io.Reader, out, log io.Writer) (*api,
	session, error) {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	url := flags.String("url", "http://127.0.0.1:8380/v2", "`address` of the API")
	token := flags.String("token", "-",
		"the KSeF `token`; - reads it from standard input, where no process list shows it")
	ca := flags.String("ca", "", "`file` with the certificates to trust, as PEM, instead of the system's")
	if err := parse(flags, arguments, log); err != nil {
		return nil, session{}, err
	}
	if *token == "-" {
		data, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return nil, session{}, fmt.Errorf("read the token: %w", err)
		}
		*token = strings.TrimSpace(string(data))
	}
	identifier, err := contextOf(*token)
	if err != nil {
		return nil, session{}, err
	}
	api, err := newAPI(*url, *ca)
	if err != nil {
		return nil, session{}, err
	}
	opened, status, err := api.logIn(ctx, *token, identifier)
	if err != nil {
		return nil, session{}, err
	}
	if status.Code != 200 {
		text := strings.Join(append([]string{status.Description}, status.Details...), ": ")
		_, err := fmt.Fprintf(out, "login refused: %d %s\n", status.Code, text)
		return nil, session{}, errors.Join(errRefused, err)
	}
	return api, opened, nil
}

// contextIdentifier is the context of a login.
type contextIdentifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// contextOf reads the context from a token: <reference number>|nip-<NIP>|<secret>.
func contextOf(token string) (contextIdentifier, error) {
	if parts := strings.Split(token, "|"); len(parts) == 3 {
		if nip, ok := strings.CutPrefix(parts[1], "nip-"); ok {
			return contextIdentifier{"Nip", nip}, nil
		}
		if id, ok := strings.CutPrefix(parts[1], "internalId-"); ok {
			return contextIdentifier{"InternalId", id}, nil
		}
	}
	return contextIdentifier{}, errors.New("this is not a KSeF token: " +
		"it has the form <reference number>|nip-<NIP>|<secret>")
}

// logIn fetches the public key and a challenge, sends the encrypted token, waits for the status,
// and fetches the access token. It also returns the last status.
func (a *api) logIn(ctx context.Context, token string, identifier contextIdentifier) (session, statusInfo, error) {
	key, keyID, err := a.publicKey(ctx, "KsefTokenEncryption")
	if err != nil {
		return session{}, statusInfo{}, err
	}
	var challenge struct {
		Challenge   string
		TimestampMs int64
	}
	if err := a.call(ctx, "POST", "/auth/challenge", "", nil, &challenge); err != nil {
		return session{}, statusInfo{}, err
	}
	plain := fmt.Sprintf("%s|%d", token, challenge.TimestampMs)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, []byte(plain), nil)
	if err != nil {
		return session{}, statusInfo{}, fmt.Errorf("encrypt the token: %w", err)
	}
	var begun struct {
		ReferenceNumber     string
		AuthenticationToken struct{ Token string }
	}
	request := map[string]any{
		"challenge": challenge.Challenge, "contextIdentifier": identifier,
		"encryptedToken": base64.StdEncoding.EncodeToString(encrypted), "publicKeyId": keyID,
	}
	if err := a.call(ctx, "POST", "/auth/ksef-token", "", request, &begun); err != nil {
		return session{}, statusInfo{}, err
	}
	status, err := a.waitFor(ctx, begun.ReferenceNumber, begun.AuthenticationToken.Token)
	if err != nil || status.Code != 200 {
		return session{}, status, err
	}
	var redeemed struct{ AccessToken struct{ Token string } }
	err = a.call(ctx, "POST", "/auth/token/redeem", begun.AuthenticationToken.Token, nil, &redeemed)
	return session{begun.ReferenceNumber, redeemed.AccessToken.Token}, status, err
}

// waitFor polls the status of a login until it is decided.
func (a *api) waitFor(ctx context.Context, reference, bearer string) (statusInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	for {
		var operation struct{ Status statusInfo }
		if err := a.call(ctx, "GET", "/auth/"+reference, bearer, nil, &operation); err != nil {
			return statusInfo{}, err
		}
		if operation.Status.Code != 100 {
			return operation.Status, nil
		}
		select {
		case <-ctx.Done():
			return statusInfo{}, fmt.Errorf("the login is still in progress: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}
