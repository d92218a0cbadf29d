"""What ``--help`` says about `uqseg` and its commands, beside the options."""

from __future__ import annotations

ABOUT = """\
Bayesian segmentation of brain tumours: masks, volumes, and how sure to be of them.

  uqseg demo                               see it work on a phantom, in six minutes
  uqseg train DATA --out RUN               learn from a folder of labelled studies
  uqseg prepare DATA --out SHARDS          a file of slices per study, for big cohorts
  uqseg calibrate RUN DATA                 probabilities mended by unseen patients
  uqseg predict RUN DATA --out MAPS        label and uncertainty maps of studies
  uqseg evaluate MAPS DATA --out REPORT    scores of the maps, a row per patient
  uqseg report MAPS DATA --out PAGE.html   whom to look at first, and what was found
  uqseg phantom OUT                        synthetic studies whose truth is known
  uqseg reproduce [DATA] --out OUT         the paper's tables and figures, on one page
"""
EPILOG = "`uqseg COMMAND --help` explains a command and shows examples."

TRAIN = """\
examples:
  uqseg train brats --out run --max-minutes 60
  uqseg train brats --out run --resume --max-minutes 120
  uqseg train brats --out run_flair --modalities flair t1ce --regions WT
  uqseg train lesions --out run --regions tumour --method flipout \\
      --pattern "{case}/{case}_{modality}.nii.gz"

The run folder gets model.keras, config.json, split.json (who was trained on),
history.csv, losses.png, latent.json (what the latent code carries), logs/ (TensorBoard)
and backup/ (for --resume). Patients are split 7 : 1 : 2 into training, validation and
test by --seed; --split FILE decides otherwise:
{"train": ["case_1"], "validation": ["case_2"], "test": ["case_3"]}.
Learning rate and KL weight follow the progress of the run, so give --max-minutes or
--epochs as you mean to use them.
"""
PREPARE = """\
examples:
  uqseg prepare brats --out shards
  uqseg prepare brats --out shards --check
  uqseg prepare lesions --out shards --regions tumour --modalities flair t1ce \\
      --pattern "{case}/{case}_{modality}.nii.gz"

SHARDS gets a TFRecord file of slices for every labelled study, cut to the brain and
scaled, about 30 MB for one of BraTS, and index.json with settings and checksums. Then
  uqseg train shards --out run
learns what it would from the studies, bit for bit, without reading and preparing them
at every start and without holding them in memory. Stopped, the same command goes on
with the studies that are left; given more studies, it adds them. The files hold the
label ids and those of all raters: --regions, --label-scheme and --raters may be chosen
when training, where --regions named here are the default.
"""
CALIBRATE = """\
examples:
  uqseg calibrate run brats
  uqseg calibrate run brats --kind platt --draws 20
  uqseg calibrate run brats --cases Brats18_2013_3_1 Brats18_2013_11_1

Fits one temperature per region (or slope and shift) to patients whom the network was
not trained on, by default the validation patients of the run's split, and keeps it in
RUN/calibration.json. `uqseg predict` then scales the logits of every draw. A
temperature leaves outlines as they are, but for single voxels near one half. The table
shows the negative log-likelihood of these same patients before and after; judge it on
others.
"""
PREDICT = """\
examples:
  uqseg predict run brats --out maps
  uqseg predict run new_studies --out maps --draws 2
  uqseg predict run new_studies --out maps --draws 100
  uqseg predict run brats --out maps --cases Brats18_2013_3_1 Brats18_2013_11_1
  uqseg predict run brats --out maps_validation --part validation

Without --cases, --split or --part: the cases in DATA that the run was neither trained
nor chosen with, or all of DATA where there is none. Labels are not needed. Each case
gets a folder with a label map, mean probability, total, aleatoric and epistemic maps
for every region on the study's own grid, and a summary with volumes in ml. Cases that
were predicted before with the same network and settings are left as they are; where
only the draws are fewer than --draws, the missing ones are added.
"""
EVALUATE = """\
examples:
  uqseg evaluate maps brats --out report
  uqseg evaluate maps brats --out report --against maps_deterministic

Scores the cases of DATA that MAPS holds. REPORT gets patients.csv (a row per patient
and region: overlap, surfaces, lesions, volumes, calibration, errors and QU-BraTS),
summary.json and summary.md; the table is printed too. With five patients or more it
says what referring the least sure of them would gain. With --against, mean differences
with intervals over patients, MAPS minus the other maps.
"""
REPORT = """\
examples:
  uqseg report maps new_studies --out report.html
  uqseg report maps brats --out report.html --shown flair --slices 60

Writes one page that needs nothing else, neither network nor other files: the patients
in the order in which to look at them, with the reasons; volumes; slices of image,
segmentation, aleatoric and epistemic maps; with labels, scores and curves too. Labels
are not needed.
"""
PHANTOM = """\
examples:
  uqseg phantom phantom
  uqseg phantom phantom --patients 40 --test-patients 8 --shifts motion bias_field

OUT gets a folder per part: train, test, and shifted test sets whose appearance no
training case has. Beside the four modalities and the labels each case has the masks of
several raters and the true probability that a rater marks a voxel. Then:
  uqseg train phantom/train --out run --raters random
"""
DEMO = """\
examples:
  uqseg demo
  uqseg demo --method flipout --out demo_flipout

Makes a phantom cohort, trains, predicts held-out patients and patients of an unseen
contrast, and compares the maps with the known truth. Leaves a figure, NIfTI maps and
a table, and says what to do with your own data.
"""

REPRODUCE = """\
examples:
  uqseg reproduce --out reproduction
  uqseg reproduce lgg --out lgg --shifted-group HT --regions tumour
  uqseg reproduce brats --out full --scale paper

Trains every network that the tables and figures of arXiv 2008.07588 need, on a phantom
unless DATA is given, and writes OUT/index.md and OUT/index.html: Tables 1 to 4 and
Figures 1, 3 and 4 beside the paper's values, with the reasons for a difference; every
method on one split; uncertainty against train size and on an unseen group; the deep
weight prior against a normal one.

  --scale small   within an hour on two slow cores: 64 x 64 slices, 150 steps a network
  --scale paper   the paper's settings (batch 16, 500 epochs, 240 x 240) on BraTS: a GPU

DATA needs 41 labelled patients for small, 100 for paper. Stopped, the same command goes
on with the networks that have no file in OUT/records; delete one to train it again.
--shifted-group holds out an institution that the names tell: the two letters after
TCGA_, or the word after Brats18_.
"""
