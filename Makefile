# Gantry. One make for the whole house; every folder's *.c are found, so adding a file needs no line here.
#
#   make                       build everything below $(BUILD)
#   make test                  unit and integration tests (root, Debian 12)
#   make unit | integration    one of them
#   make BUILD=build/asan SAN=address,undefined     a sanitizer build (also SAN=thread)
#   make install DESTDIR= PREFIX=/usr/local         and uninstall
#   make crash                 random work with deaths of daemon, shims and drivers; ROUNDS (500), SECONDS (3600), SEED, FROM
#   make crash-hosts           the same with deaths of drivers' processes alone; KILLS (100), SEED, FROM
#   make soak                  networks and endpoints that come and go; CYCLES (10000)
#   make vm                    integration tests on Debian's kernel with cgroup v2 and AppArmor, emulated; VM_TESTS="FILE..." for some (tests/vm/run)
#   make tsan                  unit tests with ThreadSanitizer
#   make fuzz                  libFuzzer targets, FUZZ_SECONDS (10) each
#   make lint                  clang-tidy and cppcheck

VERSION := 0.1.0
BUILD   ?= build/release
PREFIX  ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(if $(filter /usr,$(PREFIX)),/lib,$(PREFIX)/lib)/systemd/system
LIBEXEC := $(PREFIX)/lib/gantry
SHARE   := $(PREFIX)/share/gantry
DOC     := $(PREFIX)/share/doc/gantry
CC      ?= gcc
SAN     ?=

CPPFLAGS += -D_GNU_SOURCE -Icore -Isdk -DGANTRY_VERSION='"$(VERSION)"' \
	    -DGANTRY_LIBEXEC='"$(LIBEXEC)"' -DGANTRY_SHARE='"$(SHARE)"' -DGANTRY_SYSCONF='"$(SYSCONFDIR)/gantry"'
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=gnu17 $(CFLAGS) -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	   -Wformat=2 -fstack-protector-strong -fstack-clash-protection -fcf-protection -fno-strict-aliasing \
	   -MMD -MP
ifeq ($(SAN),)
CPPFLAGS += -D_FORTIFY_SOURCE=2
STATIC   := -static
else
ALL_CFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined -DGT_SANITIZED=1
SANFLAGS := -fsanitize=$(SAN)
STATIC   :=
endif
LDFLAGS  += -Wl,-z,relro,-z,now -Wl,--as-needed

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# ---- modules: one archive for each folder of core/ ----
MODULES := base config store driver image build runtime dns doctor engine api
sources  = $(sort $(wildcard $(1)/*.c) $(wildcard $(1)/*/*.c))
objects  = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
archive  = $(BUILD)/lib/$(1).a
src_of   = $(call sources,core/$(1))
$(foreach m,$(MODULES),$(eval $(BUILD)/lib/$(m).a: $(call objects,$(call src_of,$(m)))))
SHIM_CLIENT := $(wildcard core/shim/client*.c)
SHIM_SRC    := $(filter-out $(SHIM_CLIENT),$(call src_of,shim))
$(BUILD)/lib/shimclient.a: $(call objects,$(SHIM_CLIENT))
$(BUILD)/lib/shim.a: $(call objects,$(filter-out core/shim/main.c,$(SHIM_SRC)))
$(BUILD)/lib/fshelper.a: $(call objects,$(filter-out core/fshelper/main.c,$(call src_of,fshelper)))
CLI_SRC := $(call sources,cli)
$(BUILD)/lib/cli.a: $(call objects,$(filter-out cli/main.c,$(CLI_SRC)))
ARCHIVES := $(foreach m,$(MODULES) shimclient shim fshelper cli,$(BUILD)/lib/$(m).a)

$(ARCHIVES):
	@mkdir -p $(@D)
	@rm -f $@
	@ar rcs $@ $(filter %.o,$^)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIE -c $< -o $@

$(BUILD)/obj/core/engine/seccomp.o: core/engine/seccomp-default.json
# The default AppArmor profile as kernels of all hosts take it: compiled for the features of AppArmor 3.0, whatever the building host has.
APPARMOR_POLICY := $(BUILD)/obj/core/engine/apparmor.policy
$(APPARMOR_POLICY): core/engine/apparmor.profile
	@mkdir -p $(@D)
	@/sbin/apparmor_parser --skip-kernel-load --skip-cache --features-file /etc/apparmor.d/abi/3.0 --stdout $< >$@
$(BUILD)/obj/core/engine/apparmor.o: $(APPARMOR_POLICY)
$(BUILD)/obj/core/engine/apparmor.o: CPPFLAGS += -Wa,-I$(dir $(APPARMOR_POLICY))

# ---- programs ----
# libarchive is linked in: of the shared one's libraries (libxml2, ICU, libstdc++) nothing is needed, and they cost 2 MB of memory.
ARCHIVE_LIBS := -Wl,-Bstatic -larchive -Wl,-Bdynamic -lz -lbz2 -llzma -lzstd
DAEMON_LIBS := -lmicrohttpd -lwslay -lgnutls -lnettle -lcurl -lseccomp -linih -lisal -lnftnl -lmnl -lresolv -ljansson -Wl,-Bstatic -lyaml -Wl,-Bdynamic $(ARCHIVE_LIBS) -ldl -lpthread
PROGRAMS := $(addprefix $(BUILD)/bin/,gantryd gantry) $(addprefix $(BUILD)/libexec/,gantry-shim gantry-init gantry-fs gantry-plugin-check gantry-plugin-host gantry-stacks)
link = @mkdir -p $(@D); echo "  LD      $@"; $(CC) $(ALL_CFLAGS) $(LDFLAGS)
DAEMON_PARTS := $(call archive,api) $(call archive,engine) $(call archive,doctor) $(call archive,dns) $(call archive,build) $(call archive,image) \
	$(call archive,driver) $(call archive,shimclient) $(call archive,runtime) $(call archive,store) \
	$(call archive,config) $(call archive,base)

$(BUILD)/bin/gantryd: $(call objects,$(call src_of,daemon)) $(DAEMON_PARTS)
	$(link) -pie -Wl,--gc-sections -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(DAEMON_LIBS)
# Short-lived: each shared library costs a fifth of a millisecond at its start.
$(BUILD)/bin/gantry: $(call objects,cli/main.c) $(call archive,cli) $(call archive,base)
	$(link) -pie -Wl,--gc-sections -o $@ $^ -Wl,-Bstatic -lhttp_parser -ljansson -Wl,-Bdynamic -lsmartcols -ldl -lpthread
$(BUILD)/libexec/gantry-shim: $(call objects,core/shim/main.c) $(call archive,shim) $(call archive,runtime) $(call archive,base)
	$(link) $(STATIC) -o $@ $^ -ljansson -lseccomp -lz
# It runs in any image, so it needs nothing of one: static, and without sanitizers in every build.
$(BUILD)/libexec/gantry-init: ALL_CFLAGS := $(filter-out -fsanitize=% -fno-sanitize-recover=% -DGT_SANITIZED=1,$(ALL_CFLAGS))
$(BUILD)/libexec/gantry-init: $(call objects,$(call src_of,init))
	$(link) -static -o $@ $^
$(BUILD)/libexec/gantry-plugin-check: $(call objects,$(call src_of,kit)) $(call archive,driver) $(call archive,config) $(call archive,base)
	$(link) -pie -Wl,--gc-sections -o $@ $^ -linih -ljansson -luuid -ldl -lpthread
$(BUILD)/libexec/gantry-plugin-host: $(call objects,$(call src_of,plughost)) $(call archive,driver) $(call archive,base)
	$(link) -pie -Wl,--gc-sections -o $@ $^ -lseccomp -lcap -ljansson -ldl -lpthread
$(BUILD)/libexec/gantry-stacks: $(call objects,$(call src_of,stacks))
	$(link) -pie -o $@ $^ -ldw
$(BUILD)/libexec/gantry-fs: $(call objects,core/fshelper/main.c) $(call archive,fshelper) $(call archive,base)
	$(link) -pie -o $@ $^ -Wl,--gc-sections $(ARCHIVE_LIBS) -lnettle -lcap -ljansson -lpthread

# ---- drivers: one shared object for each folder of plugins/ that has sources; what they have in common is linked into each that uses it ----
PLUGINS := $(filter-out common,$(sort $(patsubst plugins/%/,%,$(dir $(wildcard plugins/*/*.c)))))
LIBS_net-cni := -lnl-route-3 -lnl-3 -ljansson
LIBS_vol-docker := -ljansson -ldl
LIBS_net-bridge := -lnl-route-3 -lnl-3 -lnftables
LIBS_net-macvlan := -lnl-route-3 -lnl-3
LIBS_storage-btrfs := -lbtrfsutil
LIBS_net-overlay := -lnl-route-3 -lnl-3 -lnftables -ljansson -ldl
PLUGIN_FILES := $(PLUGINS:%=$(BUILD)/plugins/%.so)
PLUGIN_CPPFLAGS = $(filter-out -Icore,$(CPPFLAGS)) -Iplugins -I/usr/include/libnl3
PLUGIN_COMMON := $(BUILD)/lib/plugin-common.a
$(PLUGIN_COMMON): $(patsubst %.c,$(BUILD)/pic/%.o,$(wildcard plugins/common/*.c))
	@mkdir -p $(@D)
	@rm -f $@
	@ar rcs $@ $^

define plugin_rule
$(BUILD)/plugins/$(1).so: $(patsubst %.c,$(BUILD)/pic/%.o,$(wildcard plugins/$(1)/*.c)) $(PLUGIN_COMMON)
	@mkdir -p $$(@D)
	@echo "  LD      $$@"
	@$$(CC) $$(ALL_CFLAGS) $$(LDFLAGS) -shared -o $$@ $$^ $$(LIBS_$(1)) -lpthread
endef
$(foreach p,$(PLUGINS),$(eval $(call plugin_rule,$(p))))
$(BUILD)/pic/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(PLUGIN_CPPFLAGS) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -c $< -o $@

# ---- the embedded image ----
$(BUILD)/share/busybox.tar: $(BUILD)/tools/mkembedded /bin/busybox
	@mkdir -p $(@D)
	$(BUILD)/tools/mkembedded /bin/busybox $@
$(BUILD)/tools/mkembedded: $(call objects,scripts/mkembedded.c) $(call archive,base)
	$(link) -pie -Wl,--gc-sections -o $@ $^ $(ARCHIVE_LIBS) -lnettle -ljansson

# ---- what `gantry plugin new` writes, and what is there to read ----
EXAMPLES := $(filter-out %.so,$(wildcard sdk/examples/*/*))
TEMPLATES := $(wildcard sdk/template/*/*)
$(BUILD)/share/template/%: sdk/template/%
	@mkdir -p $(@D)
	@cp $< $@

# ---- gantry-driver-KIND(7), of the header's comments ----
DRIVER_PAGES := $(patsubst %,$(BUILD)/man/gantry-driver-%.7,network volume storage)
$(BUILD)/man/gantry-driver-%.7: sdk/gantry/plugin.h scripts/driver-man.awk
	@mkdir -p $(@D)
	@LC_ALL=C awk -v kind=$* -v version=$(VERSION) -f scripts/driver-man.awk $< >$@.new && mv $@.new $@

all: $(PROGRAMS) $(PLUGIN_FILES) $(BUILD)/share/busybox.tar $(TEMPLATES:sdk/%=$(BUILD)/share/%) $(DRIVER_PAGES)

# ---- tests ----
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(call objects,$(filter-out $(wildcard tests/unit/test_*.c),$(wildcard tests/unit/*.c)))
$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(UNIT_HELPERS) $(ARCHIVES)
	$(link) -Wl,--gc-sections -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(DAEMON_LIBS) -lsmartcols -lhttp_parser -lcap -lcrypto -lbtrfsutil -lcmocka
# Pure functions of drivers, by themselves.
OVERLAY_PURE := $(addprefix $(BUILD)/pic/plugins/net-overlay/,etcd_data.o record.o pick.o table.o hosts.o)
$(BUILD)/tests/test_overlay_records $(BUILD)/fuzz/overlay: $(OVERLAY_PURE) $(PLUGIN_COMMON)
$(BUILD)/tests/test_overlay_wireguard: $(BUILD)/pic/plugins/net-overlay/wireguard.o $(PLUGIN_COMMON)
$(BUILD)/tests/test_overlay_wireguard: DAEMON_LIBS += -lnl-3
$(BUILD)/obj/tests/unit/test_overlay_records.o $(BUILD)/obj/tests/unit/test_overlay_wireguard.o $(BUILD)/obj/tests/fuzz/fuzz_overlay.o: CPPFLAGS += -Iplugins -I/usr/include/libnl3
# Broken and foreign drivers for the loader's tests.
TEST_PLUGINS := $(patsubst tests/data/plugins/%.c,$(BUILD)/tests/plugins/%.so,$(wildcard tests/data/plugins/*.c))
$(filter $(BUILD)/tests/plugins/reload-%.so,$(TEST_PLUGINS)): tests/data/plugins/reload.c
$(BUILD)/tests/plugins/%.so: tests/data/plugins/%.c
	@mkdir -p $(@D)
	@$(CC) $(PLUGIN_CPPFLAGS) $(ALL_CFLAGS) -fPIC -shared -o $@ $<
.SECONDARY:

unit: all $(UNIT_TESTS) $(TEST_PLUGINS)
	@GT_BUILD=$(abspath $(BUILD)) scripts/run-unit-tests $(UNIT_TESTS)
# Files of tests run side by side, each with daemons in namespaces of its own. Now and then one waits.
PYTEST_JOBS ?= $(shell expr 1 + $$(nproc))
integration: all
	@GT_BUILD=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -q -n $(PYTEST_JOBS) --dist loadfile -p no:cacheprovider $(or $(PYTEST_FILES),tests/integration) $(PYTEST_ARGS)
test: unit integration
# Prints its seed, and how to repeat where it fails.
crash: all
	@GT_BUILD=$(abspath $(BUILD)) ROUNDS=$(ROUNDS) SECONDS=$(SECONDS) SEED=$(SEED) FROM=$(FROM) tests/crash/run
# A hundred deaths (KILLS) of the processes of isolated drivers, under load.
crash-hosts: all
	@GT_BUILD=$(abspath $(BUILD)) KILLS=$(KILLS) SEED=$(SEED) FROM=$(FROM) tests/crash/run hosts
soak: all
	@GT_BUILD=$(abspath $(BUILD)) CYCLES=$(or $(CYCLES),10000) /usr/bin/python3 -m pytest -q -s -p no:cacheprovider tests/integration/test_soak.py
# The other cgroup world, in a virtual machine; "unit" among VM_TESTS is the unit tests.
vm: all $(if $(filter unit,$(VM_TESTS)),$(UNIT_TESTS) $(TEST_PLUGINS))
	@BUILD=$(BUILD) tests/vm/run $(VM_TESTS)
# Threads: the unit tests with ThreadSanitizer.
tsan:
	@$(MAKE) BUILD=build/tsan SAN=thread unit

# ---- fuzzing: clang's libFuzzer; FUZZ_SECONDS for each target, FUZZ="json load" for some ----
FUZZ ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_PROGRAMS = $(FUZZ:%=$(BUILD)/fuzz/%)
comma := ,
FUZZ_LINK_load := -Wl,--wrap=layers_acquire,--wrap=image_register,--wrap=image_tag_hex
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(ARCHIVES)
	$(link) -fsanitize=fuzzer $(FUZZ_LINK_$*) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(filter-out -Wl$(comma)%,$(DAEMON_LIBS)) -lsmartcols -lhttp_parser -lcap
fuzz:
	@$(MAKE) BUILD=build/fuzz CC=clang SAN=fuzzer-no-link,address,undefined fuzz-run
fuzz-run: $(FUZZ_PROGRAMS)
	@scripts/fuzz $(FUZZ_PROGRAMS)

# ---- lint ----
LINT_SRC = $(foreach m,$(MODULES) shim fshelper init kit plughost stacks daemon,$(call src_of,$(m))) $(CLI_SRC) $(wildcard plugins/*/*.c)
lint:
	scripts/lint $(LINT_SRC)

# ---- install ----
COMPLETIONS := bash-completion/completions zsh/site-functions fish/vendor_completions.d
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBEXEC)/plugins $(DESTDIR)$(SHARE) $(DESTDIR)$(PREFIX)/include/gantry \
		$(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/gantry/conf.d
	install -m 755 $(BUILD)/bin/gantryd $(BUILD)/bin/gantry $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BUILD)/libexec/gantry-shim $(BUILD)/libexec/gantry-init $(BUILD)/libexec/gantry-fs \
		$(BUILD)/libexec/gantry-plugin-check $(BUILD)/libexec/gantry-plugin-host $(BUILD)/libexec/gantry-stacks $(DESTDIR)$(LIBEXEC)/
	install -m 644 $(PLUGIN_FILES) $(DESTDIR)$(LIBEXEC)/plugins/
	install -m 644 $(BUILD)/share/busybox.tar $(DESTDIR)$(SHARE)/
	for file in $(TEMPLATES:sdk/%=%); do install -D -m 644 sdk/$$file $(DESTDIR)$(SHARE)/$$file || exit 1; done
	install -m 644 sdk/gantry/*.h $(DESTDIR)$(PREFIX)/include/gantry/
	install -D -m 644 sdk/README.md $(DESTDIR)$(DOC)/drivers.md
	for file in $(EXAMPLES:sdk/%=%); do install -D -m $$(test -x sdk/$$file && echo 755 || echo 644) sdk/$$file $(DESTDIR)$(DOC)/$$file || exit 1; done
	sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@VERSION@|$(VERSION)|g' sdk/gantry-sdk.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/gantry-sdk.pc
	sed 's|@BINDIR@|$(PREFIX)/bin|g' scripts/gantryd.service.in >$(DESTDIR)$(UNITDIR)/gantryd.service
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/man/,man1 man7 man8) $(COMPLETIONS:%=$(DESTDIR)$(PREFIX)/share/%)
	$(BUILD)/bin/gantry __man $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 doc/gantryd.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 644 $(DRIVER_PAGES) $(DESTDIR)$(PREFIX)/share/man/man7/
	$(BUILD)/bin/gantry completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/gantry
	$(BUILD)/bin/gantry completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_gantry
	$(BUILD)/bin/gantry completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/gantry.fish
	test -e $(DESTDIR)$(SYSCONFDIR)/gantry/gantryd.ini || \
		$(BUILD)/bin/gantryd --config /dev/null --print-config | sed '/^[a-z]/s/^/#/' >$(DESTDIR)$(SYSCONFDIR)/gantry/gantryd.ini
	@grep -qF '$(LIBEXEC)/plugins' $(BUILD)/bin/gantryd || \
		echo "make install: note: this gantryd was built for another PREFIX, and looks for its programs and drivers there; build with the same PREFIX" >&2

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/gantryd $(DESTDIR)$(PREFIX)/bin/gantry $(DESTDIR)$(UNITDIR)/gantryd.service \
		$(DESTDIR)$(PREFIX)/lib/pkgconfig/gantry-sdk.pc
	rm -rf $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(SHARE) $(DESTDIR)$(DOC) $(DESTDIR)$(PREFIX)/include/gantry
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/gantry.1 $(DESTDIR)$(PREFIX)/share/man/man1/gantry-*.1 \
		$(DESTDIR)$(PREFIX)/share/man/man8/gantryd.8 $(DRIVER_PAGES:$(BUILD)/man/%=$(DESTDIR)$(PREFIX)/share/man/man7/%) $(DESTDIR)$(PREFIX)/share/bash-completion/completions/gantry \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_gantry $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/gantry.fish

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.PHONY: all unit integration test crash crash-hosts soak vm tsan fuzz fuzz-run lint install uninstall clean
