// Validates FHIR STU3 resources by HAPI FHIR: a line for each finding, file, severity, place and text.
// usage: Validate [-p FOLDER] FILE...
// With a folder of profiles each resource must obey those that it claims, and profiles and extensions that nobody knows
// are errors; without one only FHIR's own rules are checked.

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.instance.model.api.IBaseResource;

public class Validate {
    public static void main(String[] arguments) throws Exception {
        boolean hasProfiles = arguments[0].equals("-p");
        String[] files = hasProfiles ? Arrays.copyOfRange(arguments, 2, arguments.length) : arguments;
        FhirContext context = FhirContext.forDstu3();
        PrePopulatedValidationSupport profiles = new PrePopulatedValidationSupport(context);
        if (hasProfiles) {
            try (DirectoryStream<Path> folder = Files.newDirectoryStream(Path.of(arguments[1]), "*.xml")) {
                for (Path file : folder) {
                    IBaseResource profile = context.newXmlParser().parseResource(Files.readString(file));
                    // A published stamp may be one that the parser cannot read again.
                    profile.getMeta().setLastUpdated(null);
                    profiles.addResource(profile);
                }
            }
        }
        FhirInstanceValidator instance = new FhirInstanceValidator(new ValidationSupportChain(
            new DefaultProfileValidationSupport(context),
            profiles,
            new SnapshotGeneratingValidationSupport(context),
            new CommonCodeSystemsTerminologyService(context),
            new InMemoryTerminologyServerValidationSupport(context)));
        instance.setAnyExtensionsAllowed(!hasProfiles);
        instance.setErrorForUnknownProfiles(hasProfiles);
        FhirValidator validator = context.newValidator().registerValidatorModule(instance);
        for (String file : files) {
            String resource = Files.readString(Path.of(file));
            for (SingleValidationMessage found : validator.validateWithResult(resource).getMessages()) {
                System.out.println(String.join(
                    "\t", file, found.getSeverity().toString(), found.getLocationString(), found.getMessage()));
            }
        }
    }
}
