# gpusim: runs nvcc-compiled objects without a GPU. `make gpusim` makes build/libgpusim.a, which an
# object built with --no-compress and PTX embedded links with instead of cudart.
GPUSIM_SRC := $(filter-out tests/gpusim/sim_alu_%,$(wildcard tests/gpusim/*.c))
GPUSIM_VEC := $(wildcard tests/gpusim/sim_alu_*.c)
GPUSIM_OBJ := $(GPUSIM_SRC:%.c=$(OBJ)/%.o) $(GPUSIM_VEC:%.c=$(OBJ)/%.base.o) \
    $(GPUSIM_VEC:%.c=$(OBJ)/%.avx512.o)

$(GPUSIM_OBJ): CFLAGS_ALL += -isystem $(CUDA_ROOT)/include

.PHONY: gpusim
gpusim: $(BUILD)/libgpusim.a ## build/libgpusim.a: a CUDA runtime that interprets PTX

$(BUILD)/libgpusim.a: $(GPUSIM_OBJ) $(STAMP)
	$(Q)rm -f $@ && ar rcs $@ $(GPUSIM_OBJ)
