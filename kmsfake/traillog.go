package kmsfake

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DeliverCloudTrail writes the events since its last call into log files below a
// directory, as CloudTrail delivers them to a bucket: one file for each account
// and Region, gzip, {"Records": [...]}, named
//
//	AWSLogs/ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/ACCOUNT_CloudTrail_REGION_YYYYMMDDTHHMMZ_RANDOM.json.gz
//
// by the time of delivery. It returns their paths, none if nothing has happened.
// Whoever calls it less often than every 16384 calls loses the oldest. Events
// count as delivered once all files are written; after an error, the next call
// writes them again.
func (f *KMS) DeliverCloudTrail(dir string) (files []string, err error) {
	f.mu.Lock()
	t := &f.trail
	records := slices.Clone(t.records[max(0, t.delivered-t.dropped):])
	upTo := t.dropped + len(t.records)
	f.mu.Unlock()
	type place struct{ account, region string }
	logs := make(map[place][]CloudTrailEvent)
	var places []place
	for _, r := range records {
		for _, account := range r.recipients {
			p := place{account, r.call.Region}
			if logs[p] == nil {
				places = append(places, p)
			}
			logs[p] = append(logs[p], r.event(account))
		}
	}
	now := f.now().UTC()
	for _, p := range places {
		name := filepath.Join(dir, "AWSLogs", p.account, "CloudTrail", p.region, now.Format("2006/01/02"),
			fmt.Sprintf("%s_CloudTrail_%s_%s_%s.json.gz", p.account, p.region, now.Format("20060102T1504Z"), strings.ReplaceAll(newUUID(), "-", "")[:16]))
		if err := writeLog(name, logs[p]); err != nil {
			return files, fmt.Errorf("kmsfake: %w", err)
		}
		files = append(files, name)
	}
	f.mu.Lock()
	f.trail.delivered = max(f.trail.delivered, upTo)
	f.mu.Unlock()
	return files, nil
}

// writeLog writes one log file. It appears whole or not at all.
func writeLog(name string, events []CloudTrailEvent) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".delivery*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	z := gzip.NewWriter(tmp)
	err = json.NewEncoder(z).Encode(struct{ Records []CloudTrailEvent }{events})
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = tmp.Close()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	return err
}
