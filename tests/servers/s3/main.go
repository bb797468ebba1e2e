// A store for tests that checks signatures as S3 does: Versity's gateway over a folder, without its further back ends.
//
//	s3 ADDRESS REGION FOLDER KEY_FILE
//
// FOLDER/objects holds a folder a bucket, FOLDER/meta what else is known of the objects. KEY_FILE: key id and secret,
// a line each. FOLDER/accounts, where it is there, is for further accounts: only with it is an unknown key said to be so
// as S3 says it (403, InvalidAccessKeyId); else by a 404.
package main

import (
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: s3 ADDRESS REGION FOLDER KEY_FILE")
	}
	address, region, folder := os.Args[1], os.Args[2], os.Args[3]
	key := strings.Fields(string(must(os.ReadFile(os.Args[4]))))
	if len(key) != 2 {
		log.Fatal("the key file has no two lines")
	}
	beside := filepath.Join(folder, "meta")
	options := posix.PosixOpts{SideCarDir: beside}
	store := must(posix.New(filepath.Join(folder, "objects"), must(meta.NewSideCar(beside)), options))
	owner := auth.Account{Access: key[0], Secret: key[1], Role: auth.RoleAdmin}
	known := &auth.Opts{RootAccount: owner, CacheDisable: true}
	if accounts := filepath.Join(folder, "accounts"); isFolder(accounts) {
		known.Dir = accounts
	}
	accounts := must(auth.New(known))
	root := middlewares.RootUserConfig{Access: key[0], Secret: key[1]}
	server := must(s3api.New(store, root, region, accounts, nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithConcurrencyLimiter(1000, 1000)))
	log.Fatal(server.ServeMultiPort([]string{address}))
}

func isFolder(path string) bool {
	found, err := os.Stat(path)
	return err == nil && found.IsDir()
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
