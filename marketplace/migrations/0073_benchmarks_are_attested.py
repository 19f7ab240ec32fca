"""Verifiers attest benchmarks each from its own place: challenges, their panels, transcripts and signed reports."""

import django.db.models.deletion
from django.db import migrations, models

APPEND_ONLY = ("challenge", "challengeseat", "challengetranscript", "challengereport", "challengeresult")
FUNCTIONS = """
CREATE FUNCTION marketplace_challenge_is_reported_by_its_panel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_challenge c
            JOIN marketplace_challengeseat d ON d.challenge_id = c.id AND d.seat_id = NEW.seat_id
            JOIN marketplace_challengetranscript t ON t.challenge_id = c.id AND t.transcript_hash = NEW.transcript_id
        WHERE c.id = NEW.challenge_id AND NEW.received_at >= c.opened_at AND NEW.received_at < c.closes_at
    ) THEN
        RAISE EXCEPTION 'challenge_is_reported_by_its_panel: not drawn, another time, or another transcript'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'challenge_is_reported_by_its_panel';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION marketplace_challenge_result_rests_on_its_reports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM marketplace_challenge c
            JOIN marketplace_benchmark b ON b.id = NEW.benchmark_id
                AND b.node_class_id = c.node_class_id AND b.epoch = c.epoch
        WHERE c.id = NEW.challenge_id
          AND (SELECT count(*) FROM marketplace_challengereport p
               WHERE p.challenge_id = c.id AND p.transcript_id = b.transcript_hash) >= 2
          AND NOT EXISTS (SELECT 1 FROM marketplace_attestation a
                          WHERE a.benchmark_id = b.id AND NOT EXISTS (
                              SELECT 1 FROM marketplace_challengereport p
                              WHERE p.challenge_id = c.id AND p.transcript_id = b.transcript_hash
                                AND p.seat_id = a.signer))
    ) THEN
        RAISE EXCEPTION 'challenge_result_rests_on_its_reports: another class or epoch, or signers that did not report'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'challenge_result_rests_on_its_reports';
    END IF;
    RETURN NEW;
END $$;
"""
TRIGGERS = """
CREATE TRIGGER challengereport_of_panel BEFORE INSERT ON marketplace_challengereport
    FOR EACH ROW EXECUTE FUNCTION marketplace_challenge_is_reported_by_its_panel();
CREATE TRIGGER challengeresult_of_reports BEFORE INSERT ON marketplace_challengeresult
    FOR EACH ROW EXECUTE FUNCTION marketplace_challenge_result_rests_on_its_reports();
""" + "".join(
    f"CREATE TRIGGER {name}_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON marketplace_{name} "
    "FOR EACH STATEMENT EXECUTE FUNCTION marketplace_deny_change();\n"
    f"GRANT SELECT, INSERT ON marketplace_{name} TO grove_app;\n"
    for name in APPEND_ONLY
) + "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO grove_app;"
UNDO = "".join(
    f"REVOKE ALL ON marketplace_{name} FROM grove_app;\nDROP TRIGGER {name}_stays ON marketplace_{name};\n"
    for name in APPEND_ONLY
) + """
DROP TRIGGER challengereport_of_panel ON marketplace_challengereport;
DROP TRIGGER challengeresult_of_reports ON marketplace_challengeresult;
DROP FUNCTION marketplace_challenge_is_reported_by_its_panel;
DROP FUNCTION marketplace_challenge_result_rests_on_its_reports;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('marketplace', '0072_roll_of_real_machines'),
    ]

    operations = [
        migrations.CreateModel(
            name='Challenge',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('epoch', models.PositiveIntegerField()),
                ('nonce', models.BinaryField(max_length=32)),
                ('terms', models.JSONField(help_text='what verifiers are to attest, as they are told it')),
                ('preset', models.JSONField(help_text='the chain that is asked for')),
                ('prover_url', models.CharField(max_length=200)),
                ('certificate', models.CharField(help_text='SHA-256 in hex; empty: an authority signed it', max_length=64)),
                ('token', models.CharField(max_length=64)),
                ('body', models.BinaryField(help_text="the machine's statement, canonical JSON")),
                ('signature', models.BinaryField(help_text='Ed25519 by the machine key', max_length=64)),
                ('opened_at', models.DateTimeField()),
                ('closes_at', models.DateTimeField()),
                ('node_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='challenges', to='marketplace.nodeclass')),
            ],
            options={
                'ordering': ['-opened_at'],
            },
        ),
        migrations.CreateModel(
            name='ChallengeResult',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('settled_at', models.DateTimeField()),
                ('benchmark', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='challenge', to='marketplace.benchmark')),
                ('challenge', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='result', to='marketplace.challenge')),
            ],
            options={
                'ordering': ['settled_at'],
            },
        ),
        migrations.CreateModel(
            name='ChallengeSeat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('challenge', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='seats', to='marketplace.challenge')),
                ('seat', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='challenges', to='marketplace.verifierseat')),
            ],
            options={
                'ordering': ['challenge', 'seat'],
            },
        ),
        migrations.CreateModel(
            name='ChallengeTranscript',
            fields=[
                ('transcript_hash', models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ('transcript', models.BinaryField(help_text='canonical bytes in the light form')),
                ('received_at', models.DateTimeField()),
                ('challenge', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='transcripts', to='marketplace.challenge')),
            ],
            options={
                'ordering': ['received_at'],
            },
        ),
        migrations.CreateModel(
            name='ChallengeReport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('v', models.PositiveSmallIntegerField()),
                ('r', models.BinaryField(max_length=32)),
                ('s', models.BinaryField(max_length=32)),
                ('received_at', models.DateTimeField()),
                ('challenge', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports', to='marketplace.challenge')),
                ('seat', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports', to='marketplace.verifierseat')),
                ('transcript', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reports', to='marketplace.challengetranscript')),
            ],
            options={
                'ordering': ['challenge', 'id'],
            },
        ),
        migrations.AddConstraint(
            model_name='challenge',
            constraint=models.UniqueConstraint(fields=('node_class', 'epoch'), name='a_challenge_has_its_own_epoch'),
        ),
        migrations.AddConstraint(
            model_name='challenge',
            constraint=models.UniqueConstraint(fields=('nonce',), name='a_challenge_nonce_is_used_once'),
        ),
        migrations.AddConstraint(
            model_name='challenge',
            constraint=models.CheckConstraint(condition=models.Q(('closes_at__gt', models.F('opened_at'))), name='challenge_is_open_for_a_while'),
        ),
        migrations.AddConstraint(
            model_name='challengeseat',
            constraint=models.UniqueConstraint(fields=('challenge', 'seat'), name='a_seat_is_drawn_once'),
        ),
        migrations.AddConstraint(
            model_name='challengereport',
            constraint=models.UniqueConstraint(fields=('challenge', 'seat'), name='a_verifier_reports_a_challenge_once'),
        ),
        migrations.RunSQL(FUNCTIONS + TRIGGERS, UNDO),
    ]
